import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapc.base.errors import DataError, UsageError
from tapc.proxy import Origin, Program, ProgramProxy, get_proxy, load_program, save_program
from tapc.proxy.columns import COLUMNS, check_table, columns, view
from tapc.proxy.contract import ContractError, Target, allocated, scored, visible
from tapc.proxy.sandbox import Sandbox

CODE = '"""Norms."""\n\ndef score(layers):\n    return [x["weight_l2"] for x in layers]\n'
ALLOCATE = CODE + "\ndef allocate(scores, layers, target):\n    return {0}\n"


def row(index, **cells):
    base = {
        c.name: "conv" if c.text else [1.0, 2.0] if c.scope == "channel" else max(c.low, 1.0) if c.high > 1 else 0.5
        for c in COLUMNS
    }
    return (
        base | {"name": f"l{index}", "index": index, "parameters": 100 * (index + 1), "weight_l2": index + 1.0} | cells
    )


TABLE = [row(i) for i in range(3)]
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@given(text.filter(bool), text, text, st.floats(0, 1), st.lists(text, max_size=2))
def test_a_program_survives_its_file(tmp_path_factory, name, reasoning, comment, fitness, parents):
    path = tmp_path_factory.mktemp("p") / "proxy.toml"
    code = f"{CODE}\nTEXT = {comment!r}\n# '''\n# \"\"\"\n"
    origin = Origin(generator=name, operator="mutation", parents=tuple(parents), fitness=fitness, search={"seed": 1})
    program = Program(name=name, reasoning=reasoning, code=code, inputs="metadata", origin=origin)
    save_program(program, path)
    again = load_program(path)
    # TOML knows one kind of line end.
    assert again.reasoning.replace("\r\n", "\n") == reasoning.replace("\r\n", "\n")
    assert again.model_copy(update={"reasoning": reasoning}) == program


def test_a_python_file_is_a_proxy(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(CODE)
    proxy = get_proxy(str(path))
    assert isinstance(proxy, ProgramProxy)
    assert (proxy.name, proxy.summary) == ("mine", "Norms.")
    assert proxy.score_table(TABLE) == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "schema = 1"),
        ("schema = 2", "schema = 1"),
        ("schema = 1\nname = 'x'", "code"),
        ("schema = 1\nname = 'x'\ncode = 'y = 1'", "no function score"),
        ("schema = 1\nname = 'x'\ncode = 'def score('", "no function score"),
        ("schema = 1\nname = 'x'\ncode = 'def score(l): 0'\ninputs = 'tensors'", "inputs"),
        ("schema = 1\nname = 'x'\ncode = 'def score(l): 0'\ncolour = 1", "colour"),
        ("not toml", "not TOML"),
    ],
)
def test_what_is_no_proxy_is_refused(tmp_path, content, problem):
    path = tmp_path / "p.toml"
    path.write_text(content)
    with pytest.raises(DataError, match=problem):
        load_program(path)
    with pytest.raises(DataError, match="cannot be read"):
        load_program(tmp_path / "none.toml")
    with pytest.raises(UsageError, match=r"give a \.toml or \.py file"):
        get_proxy("none")


def test_metadata_hides_statistics_and_channels_are_handed_over_on_demand():
    check_table(TABLE)
    assert {c.name for c in columns("metadata")} < {c.name for c in columns("statistics")}
    assert "weight_l2" not in view(TABLE, "metadata")[0]
    assert "macs" in view(TABLE, "metadata")[0]
    assert "channel_weight_l2" not in visible(TABLE, "statistics", "x['in_channels']")[0]
    assert "channel_weight_l2" in visible(TABLE, "statistics", "x['channel_weight_l2']")[0]
    assert "channel_weight_l2" not in visible(TABLE, "metadata", "x['channel_weight_l2']")[0]


@pytest.mark.parametrize("change", [{"macs": -1}, {"depth": 1.5}, {"op": 3.0}, {"macs": [1.0]}, {"extra": 1}])
def test_a_wrong_table_is_noticed(change):
    with pytest.raises(ValueError, match=r"\w"):
        check_table([TABLE[0] | change])


def test_a_program_is_judged_by_what_it_returns():
    with Sandbox() as sandbox:
        assert scored(sandbox, CODE, [TABLE, TABLE[:2]], "statistics") == [[1, 2, 3], [1, 2]]
        with pytest.raises(ContractError, match="KeyError"):
            scored(sandbox, CODE, [TABLE], "metadata")


@pytest.mark.parametrize(
    ("returned", "problem"),
    [
        ("[8, 2, 2]", None),
        ("[2, 2, 4]", None),
        ("[8, 8, 8]", "average"),
        ("[2, 3, 2]", "on offer"),
        ("[2, 2]", "3 bit widths"),
        ("[True, 2, 2]", "on offer"),
        ("None", "3 bit widths"),
        ("[target['choices'][0]] * len(layers)", None),
    ],
)
def test_own_bits_are_checked_and_never_repaired(returned, problem):
    code, target = ALLOCATE.format(returned), Target(3.0, (2, 4, 8))
    with Sandbox() as sandbox:
        if problem is None:
            bits = allocated(sandbox, code, [[1, 2, 3]], [TABLE], [target], "statistics", twice=True)[0]
            assert len(bits) == 3
        else:
            with pytest.raises(ContractError, match=problem):
                allocated(sandbox, code, [[1, 2, 3]], [TABLE], [target], "statistics")


@pytest.mark.parametrize(
    ("returned", "problem"),
    [
        ("[[1.0] * int(layer['out_channels']) for layer in layers]", None),
        ("[[1.0] for layer in layers]", "gave layer 'l0'"),
        ("[[-1.0] * int(layer['out_channels']) for layer in layers]", "not negative"),
        ("[1.0, 2.0, 3.0]", "gave layer 'l0'"),
        ("[]", "3 lists"),
    ],
)
def test_scores_of_channels_are_checked(returned, problem):
    table = [row | {"out_channels": channels} for row, channels in zip(TABLE, (2, 3, 4), strict=True)]
    code = CODE + f"\n\ndef score_channels(layers):\n    return {returned}\n"
    proxy = ProgramProxy(Program(name="p", code=code))
    if problem is None:
        assert proxy.score_channels(table) == [[1.0] * 2, [1.0] * 3, [1.0] * 4]
        assert ProgramProxy(Program(name="p", code=CODE)).score_channels(table) is None
    else:
        with pytest.raises(DataError, match=problem):
            proxy.score_channels(table)
