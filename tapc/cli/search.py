"""Commands about proxies: `tapc search` and `tapc proxies`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tapc.base.errors import UsageError
from tapc.base.options import Source
from tapc.base.terminal import Table, columns, print_json, print_table, progress, say, visible
from tapc.cli.found import print_outcome, summary
from tapc.cli.options import DEVICE, JSON, Board, Model, Proxy, data_option, source_options, unit_options
from tapc.cli.types import BitList, Bytes, Shape

if TYPE_CHECKING:
    from tapc.search import Request

_NO_RUN = "give --llm to start a search, or --resume RUN to go on with one"


def register(main: click.Group) -> None:
    """Add the commands."""

    @main.command()
    @click.argument("networks", type=Model(), nargs=-1)
    @click.option(
        "--board",
        type=Board(),
        default=None,
        help="Board whose measurements enter the fitness; see `tapc boards`. Without, nothing is built or run.",
    )
    @click.option(
        "--llm",
        default=None,
        help="Who writes proxies: a litellm model (openai/NAME), files:DIR, pool:RECORD (earlier answers, drawn), or "
        "offline (a grammar, not TAP).",
    )
    @click.option("--data", multiple=True, help="Labelled samples, once per network; zoo networks find theirs.")
    @click.option("--table", "tables", multiple=True, type=click.Path(path_type=Path), metavar="FILE|DIR",
                  help="Loss tables beside those that come with tapc; may be repeated.")  # fmt: skip
    @click.option("--hold-out", type=Model(), default=None, metavar="NETWORK",
                  help="Network that decides among the fittest.")  # fmt: skip
    @click.option("--finalists", type=click.IntRange(min=1), default=5, show_default=True, help="So many of them.")
    @click.option("--weights", multiple=True, help="State dicts of zoo or torch models, once per network.")
    @click.option("--input-shape", type=Shape(), default=None, metavar="1,3,32,32", help="For models that do not say.")
    @unit_options
    @click.option(
        "-o", "--output", type=click.Path(path_type=Path), default=None, help="Folder of the run, default build/search."
    )
    @click.option("--resume", type=click.Path(path_type=Path), default=None, help="Go on with the run in this folder.")
    @click.option("--report", type=click.Path(path_type=Path), default=None, help="Only write this run's report.html.")
    @click.option("--generations", type=click.IntRange(min=0), default=5, show_default=True)
    @click.option("--population", type=click.IntRange(min=1), default=8, show_default=True)
    @click.option("--alpha", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Weight of rho (Eq. 6).")
    @click.option("--rank", type=click.Choice(["spearman", "kendall"]), default="spearman", show_default=True,
                  help="Rank correlation of predicted and measured losses.")  # fmt: skip
    @click.option("--accuracy", type=click.Choice(["loss", "top1"]), default="loss", show_default=True,
                  help="What the bits are judged by at each budget.")  # fmt: skip
    @click.option("--combine", type=click.Choice(["min", "mean", "trimmed"]), default="min", show_default=True,
                  help="How several networks become one figure.")  # fmt: skip
    @click.option("--rounding", type=click.Choice(["gptq", "nearest"]), default="gptq", show_default=True,
                  help="Whose measured losses count.")  # fmt: skip
    @click.option("--beta", type=click.FloatRange(min=0), default=None,
                  help="Weight of the measured cost [default: 0.05 with --board, else 0].")  # fmt: skip
    @click.option("--cost", type=click.Choice(["instructions", "cycles", "flash", "ram", "bops"]), default=None,
                  help="What beta weighs, relative to its budget or to the most bits on offer [default: instructions "
                  "with --board, else bops].")  # fmt: skip
    @click.option(
        "--controller",
        type=click.Choice(["tap", "eq7", "dpo", "ucb", "uniform"]),
        default="tap",
        show_default=True,
        help="Who draws the operators; tap by ranks in the population, eq7 by fitness as the paper prints.",
    )
    @click.option("--allocator", type=click.Choice(["ilp", "proxy"]), default="ilp", show_default=True)
    @click.option(
        "--inputs",
        type=click.Choice(["statistics", "metadata"]),
        default="statistics",
        show_default=True,
        help="What proxies see.",
    )
    @click.option("--wbits", type=BitList((2, 4, 8)), default="2,4,8", show_default=True)
    @click.option("--abits", type=BitList((4, 8)), default="8", show_default=True)
    @click.option(
        "--target-bits", type=click.FloatRange(2, 8), default=3, show_default=True, help="Average weight bits."
    )
    @click.option("--flash", type=Bytes(), default=None, help="Budget, e.g. 64K.")
    @click.option("--ram", type=Bytes(), default=None, help="Budget, e.g. 64K.")
    @click.option("--latency", type=click.FloatRange(min=0, min_open=True), default=None, help="Instructions.")
    @click.option("--bops", type=click.IntRange(min=1), default=None)
    @click.option("--configurations", type=click.IntRange(min=60), default=200, show_default=True,
                  help="That are measured of a network without a loss table.")  # fmt: skip
    @click.option("--calibration", type=click.IntRange(min=16), default=256, show_default=True, help="Samples.")
    @click.option("--test", type=click.IntRange(min=1), default=500, show_default=True,
                  help="Samples that losses are measured on.")  # fmt: skip
    @click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
    @DEVICE
    @click.option("--jobs", type=click.IntRange(min=1), default=None, help="Processes; default: the cores.")
    @click.option("--scheduler", default=None, metavar="tcp://HOST:PORT", help="A dask scheduler in their place.")
    @click.option("--prompts", type=click.Path(path_type=Path), default=None, help="Folder of prompts of your own.")
    @click.option("--api-base", default=None, metavar="URL", help="A local server that speaks the provider's protocol.")
    @click.option("--temperature", type=click.FloatRange(0, 2), default=0.8, show_default=True)
    @click.option("--max-tokens", type=click.IntRange(min=1), default=4096, show_default=True, help="Of an answer.")
    @click.option(
        "--timeout", type=click.FloatRange(min=0, min_open=True), default=120, show_default=True, help="Seconds."
    )
    @click.option(
        "--parallel", type=click.IntRange(min=1), default=4, show_default=True, help="Questions that are asked at once."
    )
    @click.option("--retries", type=click.IntRange(min=0), default=4, show_default=True)
    @click.option("--fallback", multiple=True, help="Model that is asked where the one before does not answer.")
    @click.option(
        "--max-failures",
        type=click.IntRange(min=1),
        default=3,
        show_default=True,
        help="Unanswered in a row, then stop.",
    )
    @click.option(
        "--max-cost", type=click.FloatRange(min=0), default=None, help="US dollars for the whole search [default: 5]."
    )
    @click.option("--allow-unknown-price", is_flag=True, help="Ask models whose price is unknown.")
    @click.option("--record", type=click.Path(path_type=Path), default=None, help="Write questions and answers here.")
    @click.option("--replay", type=click.Path(path_type=Path), default=None, help="Answer from a record, no requests.")
    @click.option("--no-cache", is_flag=True, help="Ask again what an earlier search asked.")
    @click.option("--files-timeout", type=float, default=None, help="Seconds to wait for an answer's file.")
    @JSON
    def search(
        networks: tuple[str, ...],
        board: str | None,
        llm: str | None,
        output: Path | None,
        resume: Path | None,
        report: Path | None,
        jobs: int | None,
        scheduler: str | None,
        as_json: bool,
        source: Source,
        **rest: Any,
    ) -> None:
        """Search for a proxy: a program that scores layers, judged on NETWORKS.

        A language model writes proxies, and evolution improves them (TAP, arXiv 2512.07419). Their fitness: how they
        rank configurations of one size by loss, what the bits lose that they lead to, and, with a board, what these
        cost on the simulated device. Networks with a loss table need no data; with none named, some of those that
        come with tapc are searched.

        \b
        Examples:
          tapc search --llm offline
          tapc search resnet8 dscnn --hold-out vit-micro --llm openai/gpt-5 --max-cost 2
          tapc search resnet8 --board pico --llm openai/local --api-base http://localhost:8000/v1 --allow-unknown-price
          tapc search net.onnx --data samples.npz --board stm32h7 --llm offline
          tapc search --resume build/search
        """
        from tapc.search import search as run
        from tapc.search import stored_request
        from tapc.search.view import SearchView

        if report is not None:
            from tapc.search.report import write_report

            click.echo(visible(str(write_report(report))))
            return
        if resume is not None:
            if networks or board or llm or output:
                raise UsageError(
                    "--resume goes on with a run as it was started; leave out networks, --board, --llm, -o"
                )
            request, folder = _with_cost(stored_request(resume), rest["max_cost"]), resume
        else:
            if llm is None:
                raise UsageError(_NO_RUN)
            request, folder = _request(networks, board, llm, source, rest), output or Path("build/search")
        options = request.options
        with SearchView((options.generations + 1) * options.population) as view:
            try:
                outcome = run(
                    request, folder, resume=resume is not None, jobs=jobs, scheduler=scheduler, stages=view,
                    observe=view.observe, tell=view.tell,
                )  # fmt: skip
            except KeyboardInterrupt:
                raise click.exceptions.Exit(_stopped(folder)) from None
        if as_json:
            print_json(summary(outcome))
            return
        print_outcome(outcome)

    @main.group(invoke_without_command=True)
    @JSON
    @click.pass_context
    def proxies(context: click.Context, as_json: bool) -> None:
        """List the proxies that score layers.

        \b
        Examples:
          tapc proxies
          tapc proxies score hawq_v2 --model resnet8
        """
        if context.invoked_subcommand is not None:
            return
        from tapc.proxy import all_names, get_proxy

        rows = [(name, get_proxy(name).summary) for name in all_names()]
        if as_json:
            print_json([{"name": name, "summary": text} for name, text in rows])
            return
        meaning = "what it takes the error to be"
        table = Table("proxies", columns("name", meaning, prose=(meaning,)))
        for name, text in rows:
            table.add(name, text)
        print_table(table)

    @proxies.command()
    @click.argument("name", type=Proxy())
    @click.option("--model", type=Model(), required=True, help="Zoo name or model file.")
    @data_option("Samples: folder, zip, npz, npy or CSV; zoo networks find theirs.")
    @source_options
    @click.option("--calibration", type=click.IntRange(min=16), default=256, show_default=True, help="Samples.")
    @click.option(
        "--low-bits", type=click.Choice(["2", "4"]), default="2", show_default=True, help="Lowest weight bits."
    )
    @click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
    @JSON
    def score(
        name: str,
        model: str,
        data: str | None,
        source: Source,
        calibration: int,
        low_bits: str,
        seed: int,
        as_json: bool,
    ) -> None:
        """Score a network's layers with a proxy, beside the error that each causes alone.

        NAME is one of `tapc proxies`, or a proxy file.

        \b
        Examples:
          tapc proxies score tap --model resnet8
          tapc proxies score build/search/proxy.toml --model resnet8 --json
        """
        from tapc.search.score import score_model

        result = score_model(
            name, model, data=data, source=source, calibration=calibration, low_bits=int(low_bits), seed=seed,
            stages=progress(),
        )  # fmt: skip
        if as_json:
            print_json(result.to_dict())
            return
        numbers = ("score", "measured error", "rank of score", "rank of error")
        table = Table(f"{name} on {result.model}", columns("layer", *numbers, right=numbers))
        for row in result.layers:
            table.add(row.name, f"{row.score:.4g}", f"{row.error:.4g}", row.score_rank, row.error_rank)
        print_table(table)
        say(f"Spearman's rho: {result.rho:.3f}; scored in {result.seconds:.2f} s")


def _stopped(folder: Path) -> int:
    say(f"stopped; nothing is lost: tapc search --resume {folder}", err=True)
    return 130


def _with_cost(request: "Request", most: float | None) -> "Request":
    """Return the request with another cap on what language models may cost."""
    if most is None:
        return request
    llm = request.generator.options.model_copy(update={"max_cost": most})
    return request.model_copy(update={"generator": request.generator.model_copy(update={"options": llm})})


def _request(networks: tuple[str, ...], board: str | None, llm: str, units: Source, rest: dict[str, Any]) -> "Request":
    from tapc.search import GeneratorOptions, LLMOptions, Request, SearchOptions
    from tapc.search.given import Tables, default_names

    tables, hold_out = tuple(map(str, rest["tables"])), rest["hold_out"]
    if not networks:
        networks, held = default_names(Tables(tables))
        hold_out = held if hold_out is None else hold_out
    if board is None:
        rest |= {"beta": rest["beta"] or 0.0, "cost": rest["cost"] or "bops"}
    rest |= {"cache": not rest["no_cache"]}
    rest |= {name: None if rest[name] is None else str(rest[name]) for name in ("record", "replay")}

    def chosen(model: Any) -> dict[str, Any]:
        return {name: rest[name] for name in model.model_fields if rest.get(name) is not None}

    prompts = rest["prompts"]
    generator = GeneratorOptions(
        llm=llm, prompts=None if prompts is None else str(prompts), options=LLMOptions(**chosen(LLMOptions))
    )
    return Request(
        models=networks, board=board, tables=tables, hold_out=hold_out, data=rest["data"],
        weights=rest["weights"], input_shape=rest["input_shape"],
        pixel_scale=units.pixel_scale, mean=units.mean, std=units.std, generator=generator,
        options=SearchOptions(**chosen(SearchOptions)),
    )  # fmt: skip
