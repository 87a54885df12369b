"""Proxies that a search found and that come with tapc: what they are, against the record of how they were found."""

import pytest

from tapc.base.errors import DataError
from tapc.flow.losses import load_losses, loss_names
from tapc.flow.losses.identities import identities
from tapc.flow.losses.ranking import found_scores
from tapc.flow.losses.table import SEARCHED
from tapc.proxy import FOUND, ProgramProxy, all_names, get_proxy, load_program, proxy_names
from tapc.proxy.base import ProxyContext


@pytest.mark.parametrize("name", sorted(FOUND))
def test_it_is_what_the_search_found(name: str) -> None:
    """The code that was taken over scores every network as the program of the search does in the sandbox."""
    program = load_program(FOUND[name].file)
    for network in (*loss_names(SEARCHED), *loss_names()):
        table = [dict(row) for row in load_losses(network).statistics]
        assert FOUND[name].score_table(table) == pytest.approx(ProgramProxy(program).score_table(table), rel=1e-12)


@pytest.mark.parametrize("name", sorted(FOUND))
def test_it_never_saw_the_benchmark(name: str) -> None:
    digests = identities()
    seen = {digests[network] for network in loss_names(SEARCHED)}
    assert set(FOUND[name].origin.digests) <= seen
    assert not seen & {digests[network] for network in loss_names()}


def test_it_goes_by_its_name_and_is_none_of_those_made_by_hand() -> None:
    assert set(all_names()) == {*proxy_names(), *FOUND}
    assert not set(proxy_names()) & set(FOUND)
    assert all(get_proxy(name) is FOUND[name] for name in FOUND)


def test_a_table_without_its_columns_has_no_scores_of_it() -> None:
    table = load_losses(loss_names()[0])
    assert set(found_scores([table])) == set(FOUND)
    assert found_scores([]) == {}
    for found in FOUND.values():
        assert found.knows(table.statistics)
        short = [
            {column: cell for column, cell in row.items() if column != found.columns[0]} for row in table.statistics
        ]
        assert not found.knows(short)


def test_without_statistics_it_says_what_is_missing() -> None:
    with pytest.raises(DataError, match="give calibration data"):
        get_proxy("tapc-1").score(ProxyContext(None, {}, {}))  # type: ignore[arg-type]
