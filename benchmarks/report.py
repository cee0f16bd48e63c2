"""Reports what run.py has measured: one table, one chart, and the judgement of a quick run.

report.py <bench.json>

Writes bench.svg beside the JSON. Times are never judged. After `./dev bench --quick` the figures
that do not depend on the machine are: the status is 1 when one is above its limit in JUDGED.
"""

import dataclasses
import json
import math
import pathlib
import sys

PEERS = ("limit", "raw_asio", "fedagent", "caf", "asyncio")

# What a quick run is judged by: the benchmark, its figure, the limit, and what that is.
JUDGED = (
    ("W1/fedagent/1", "allocs", 2.0, "allocations for a round trip; two are its messages"),
    ("W1/fedagent/64", "allocs", 2.0, "allocations for a round trip; two are its messages"),
    ("W2.memory/fedagent/100000", "heap_idle", 320, "bytes of an idle agent"),
    ("W2.memory/fedagent/100000", "heap_waiting", 100, "bytes that WAITING adds"),
    ("W2.memory/fedagent/100000", "heap_parked", 850, "bytes of an agent with a poll parked"),
    ("W3/fedagent/1", "allocs", 0, "allocations for a liveness cycle"),
    ("W3/fedagent/10000", "allocs", 0, "allocations for a liveness cycle"),
    ("W4.untracked/fedagent/100000", "messages", 1, "messages alive in a broadcast"),
    ("W4.tracked/fedagent/100000", "messages", 1, "messages alive in a broadcast"),
)
# A table that grows once more within a hundred operations is no steady allocation.
TOLERANCE = 0.01


@dataclasses.dataclass
class Row:
    """A line of the table: one figure of one workload, of all peers."""

    workload: str
    title: str
    metric: str = "ns"
    size: str = ""
    # (peer, other): in the column of this peer stands another way to do the same.
    renamed: tuple = ()
    # (factor, peer): at most so many times that peer's figure; (figure, None): at most that.
    targets: tuple = ()

    def figure(self, results, peer):
        name = f"{self.workload}/{dict(self.renamed).get(peer, peer)}" + (f"/{self.size}" if self.size else "")
        return results.get(name, {}).get(self.metric)


def sized(sizes, *rows):
    return [
        dataclasses.replace(row, size=str(size), title=f"{row.title}, {size:,}") for size in sizes for row in rows
    ]


MANY = (100_000, 1_000_000)
ROWS = [
    Row("W1", "round trip, 1 outstanding", size="1", targets=((0.4, "raw_asio"),)),
    Row("W1", "round trip, 64 outstanding", size="64", targets=((0.2, "raw_asio"),)),
    Row("W1", "  raw_asio with try_send, 1", size="1", renamed=(("raw_asio", "raw_asio_try"),)),
    Row("W1", "  raw_asio with try_send, 64", size="64", renamed=(("raw_asio", "raw_asio_try"),)),
    *sized(
        (1, 64),
        Row(
            "W1",
            "  with CoarseClock",
            renamed=(("fedagent", "fedagent_coarse"),),
        ),
    ),
    Row("W1", "  as a transport serves it, 1", size="1", renamed=(("fedagent", "fedagent_served"),)),
    Row("W1", "  as a transport serves it, 64", size="64", renamed=(("fedagent", "fedagent_served"),)),
    Row("W1", "allocations, 1 outstanding", "allocs", "1", ((2, None),)),
    Row("W1", "allocations, 64 outstanding", "allocs", "64", ((2, None),)),
    *sized(
        MANY,
        Row("W2.memory", "idle agents: heap bytes each", "heap_idle", targets=((320, None),)),
        Row("W2.memory", "  resident bytes each", "rss_idle"),
        Row("W2.memory", "  WAITING adds", "heap_waiting", targets=((100, None),)),
        Row("W2.memory", "  with a poll parked: heap", "heap_parked", targets=((850, None),)),
        Row("W2.memory", "  with a poll parked: resident", "rss_parked"),
        Row(
            "W2.memory",
            "  the same in a coroutine: heap",
            "heap_parked",
            renamed=(("fedagent", "fedagent_coroutines"),),
        ),
        Row("W2.create", "  making one", targets=((3, "limit"),)),
        Row("W2.lookup", "  finding one", targets=((1.3, "limit"),)),
    ),
    *sized((10_000, 100_000), Row("W2.end", "  ending one with the store")),
    *sized((1, 10_000), Row("W3", "liveness cycle", targets=((0.25, "raw_asio"),))),
    Row("W3", "liveness cycle, 1,000,000", size="1000000", targets=((0.25, "raw_asio"), (3, "limit"))),
    *sized(
        (1, 10_000, 1_000_000),
        Row(
            "W3",
            "  with CoarseClock",
            renamed=(("fedagent", "fedagent_coarse"),),
        ),
    ),
    *sized((1, 10_000, 1_000_000), Row("W3", "  allocations", "allocs", targets=((0, None),))),
    *sized(
        MANY,
        Row("W4.untracked", "broadcast, for each node", targets=((5, "limit"),)),
        Row("W4.tracked", "  with replies", targets=((3, "limit"),)),
        Row("W4.tracked", "  messages alive", "messages", targets=((1, None),)),
        Row("W4.tracked", "  bytes queued for each node", "queued_bytes"),
        Row("W4.tracked", "  allocations for each node", "allocs"),
    ),
    Row("W8", "compile time", targets=((1.3, "raw_asio"),)),
    Row("W8", "object size", "object_bytes"),
]


def below(figure, limit):
    return figure is not None and limit is not None and figure <= limit * 1.005 + TOLERANCE


def reached(row, results):
    """Whether all targets are; None when one cannot be told."""
    own = row.figure(results, "fedagent")
    verdicts = []
    for value, peer in row.targets:
        base = 1 if peer is None else row.figure(results, peer)
        if own is None or base is None:
            return None
        verdicts.append(below(own, value * base))
    return all(verdicts) if verdicts else None


def target_text(row):
    return ", ".join(
        f"≤ {value:g}" + (f" × {peer}" if peer else "") for value, peer in row.targets
    )


def number(figure, metric="ns"):
    if figure is None:
        return ""
    if metric == "ns" and figure >= 1e8:
        return f"{figure / 1e9:.2f} s"
    if metric == "allocs":
        return f"{figure:.2f}"
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"


def ratio(row, results, peer):
    """fedagent's figure as a multiple of the peer's; counts are no ratios."""
    own, other = row.figure(results, "fedagent"), row.figure(results, peer)
    counts = row.metric in ("allocs", "messages", "queued_bytes", "heap_waiting")
    return "" if counts or own is None or not other else f"{own / other:.2f}"


def verdict_text(verdict):
    return {True: "yes", False: "NO", None: ""}[verdict]


def lines_of(results):
    """The cells of the table, as text."""
    special = {"W7": thread_lines, "W9": round_lines}
    for workload in [f"W{i}" for i in range(1, 10)]:
        yield from special.get(workload, lambda _, w=workload: plain_lines(w, results))(results)


def plain_lines(workload, results):
    for row in ROWS:
        if row.workload.split(".")[0] != workload:
            continue
        figures = {peer: row.figure(results, peer) for peer in PEERS}
        if figures["fedagent"] is None:
            continue
        unit = " [ns]" if row.metric == "ns" and row.workload != "W8" else ""
        yield [
            row.workload.split(".")[0],
            row.title + unit,
            *(number(figures[peer], row.metric) for peer in PEERS),
            ratio(row, results, "limit"),
            ratio(row, results, "raw_asio"),
            target_text(row),
            verdict_text(reached(row, results)),
        ]


def line(workload, title, figure, target="", verdict=None):
    cells = [""] * len(PEERS)
    cells[PEERS.index("fedagent")] = figure
    return [workload, title, *cells, "", "", target, verdict_text(verdict)]


def thread_lines(results):
    one = results.get("W7/fedagent/1")
    two = results.get("W7/fedagent/2")
    if one and two:
        speed = two["items_per_second"] / one["items_per_second"]
        yield line("W7", "two threads: throughput × one's", f"{speed:.2f}", "≥ 1.8", speed >= 1.8)
        # What it would be with two free processors; the clock of a shared machine does not tell.
        yield line("W7", "  as CPU time tells", f"{2 * one['ns'] / two['ns']:.2f}")
        yield line("W7", "  round trip in a process with threads [ns]", number(one["ns"]))


def round_lines(results):
    for size in (1_000, 10_000, 100_000):
        base = results.get(f"W9.requests/fedagent/{size}")
        for kind in ("round", "deadline_for_each", "adaptive"):
            figures = results.get(f"W9.{kind}/fedagent/{size}")
            if base and figures:
                times = figures["ns"] / base["ns"]
                title = f"{kind.replace('_', ' ')}, {size:,}: × requests one by one"
                yield line("W9", title, f"{times:.2f}", "≤ 4", times <= 4)
    for kind in ("requests", "round"):
        few = results.get(f"W9.{kind}/fedagent/1000")
        many = results.get(f"W9.{kind}/fedagent/100000")
        if few and many:
            title = f"{kind} [ns for each node]: 1,000 and 100,000"
            yield line("W9", title, f"{number(few['ns'])} / {number(many['ns'])}", "linear")


def table(results):
    head = ["", "workload", *PEERS, "× limit", "× raw_asio", "target", "reached"]
    lines = [head, *lines_of(results)]
    widths = [max(len(cells[i]) for cells in lines) for i in range(len(head))]
    left = {0, 1, len(head) - 2, len(head) - 1}
    for cells in lines:
        yield "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths))
        ).rstrip()


# --- The chart -----------------------------------------------------------------------------------

COLOURS = {
    "limit": "#8a9ba8",
    "raw_asio": "#c9a24b",
    "fedagent": "#2f7d6b",
    "caf": "#7a5c99",
    "asyncio": "#b3574a",
}
CHARTED = [
    row
    for row in ROWS
    if row.metric in ("ns", "heap_idle", "heap_parked", "object_bytes")
    and row.size != "10000"
    and not row.renamed
]


def chart(results):
    """Bars of every peer's figure as a multiple of raw_asio's, on a logarithmic scale."""
    rows = [row for row in CHARTED if row.figure(results, "raw_asio") and row.figure(results, "fedagent")]
    left, width, bar, gap, top = 330, 520, 11, 12, 56
    low, high = -2, 2

    def x(value):
        place = (math.log10(max(value, 10.0**low)) - low) / (high - low)
        return left + width * min(place, 1)

    parts = []
    y = top
    for row in rows:
        figures = [(p, row.figure(results, p)) for p in PEERS]
        figures = [(p, f) for p, f in figures if f]
        middle = y + bar * len(figures) / 2 + 4
        title = f"{row.workload.split('.')[0]}  {row.title.strip()}"
        parts.append(f'<text x="{left - 10}" y="{middle:.0f}" text-anchor="end">{title}</text>')
        for peer, figure in figures:
            value = figure / row.figure(results, "raw_asio")
            begin, end = sorted((x(1), x(value)))
            parts.append(
                f'<rect x="{begin:.1f}" y="{y}" width="{max(end - begin, 1.5):.1f}" height="{bar - 2}" '
                f'fill="{COLOURS[peer]}"><title>{peer}: {value:.2f}</title></rect>'
            )
            if peer == "fedagent":
                parts.append(f'<text x="{end + 4:.1f}" y="{y + 9}" class="value">{value:.2f}</text>')
            y += bar
        y += gap
    height = y + 20

    grid = []
    for power in range(low, high + 1):
        place = x(10.0**power)
        stroke = "#444" if power == 0 else "#ddd"
        grid.append(f'<line x1="{place}" y1="{top - 8}" x2="{place}" y2="{y}" stroke="{stroke}"/>')
        grid.append(f'<text x="{place}" y="{top - 12}" text-anchor="middle">{10.0**power:g}</text>')
    legend = []
    for i, peer in enumerate(PEERS):
        place = left + i * 100
        legend.append(f'<rect x="{place}" y="10" width="10" height="10" fill="{COLOURS[peer]}"/>')
        legend.append(f'<text x="{place + 14}" y="19">{peer}</text>')
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 60}" height="{height}">',
            "<style>text{font:12px sans-serif;fill:#222}.value{font-size:10px}</style>",
            '<rect width="100%" height="100%" fill="white"/>',
            '<text x="10" y="19">multiples of raw_asio; less is better</text>',
            *legend,
            *grid,
            *parts,
            "</svg>",
            "",
        ]
    )


# --- The judgement -------------------------------------------------------------------------------


def sentences(results):
    """What is wrong with a quick run."""
    for name, metric, limit, what in JUDGED:
        figure = results.get(name, {}).get(metric)
        if figure is None:
            yield f"{name} has not been measured"
        elif not below(figure, limit):
            yield f"{name}: {number(figure, metric)} {what}; the limit is {limit:g}"


def report(path):
    """Prints the table, writes the chart; returns the status of the program."""
    data = json.loads(path.read_text(encoding="utf-8"))
    results, machine = data["benchmarks"], data["machine"]
    print("\n".join(table(results)))
    loads = ", ".join(f"{load:.1f}" for load in machine["load"])
    print(
        f"\n{machine['cpu']}, {machine['processors']} processors (load {loads}), "
        f"{machine['system']}, {machine['compiler']}, Python {machine['python']}"
    )
    path.with_suffix(".svg").write_text(chart(results), encoding="utf-8")
    if not data["quick"]:
        return 0
    wrong = list(sentences(results))
    for sentence in wrong:
        print(f"bench: {sentence}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(report(pathlib.Path(sys.argv[1])))
