"""Results as a table in Markdown and as a plot in SVG."""

import html
import math

from harness.results import CLASSES

COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#8c564b")


def _number(value):
    if value is None:
        return "-"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def _columns(results):
    """Header and (row, cpus) -> value of every column behind the name."""
    columns = [(machine, lambda row, cpus, m=machine: results.median(row, m, cpus)) for machine in results.machines]
    engines = [machine for machine in results.machines if machine.startswith("doppel")]
    for engine in engines:
        for above, below in ((engine, "native"), ("tcg", engine)):
            if above in results.machines and below in results.machines:
                columns.append((f"{above}/{below}", lambda row, cpus, a=above, b=below: (
                    results.geometric_mean(row, a, b, cpus) if row in CLASSES else results.ratio(row, a, b, cpus))))
    return columns


def table(results):
    columns = _columns(results)
    lines = []
    for cpus in results.cpus():
        lines.append(f"\n{cpus} vCPU{'s, a copy of each row on both' if cpus > 1 else ''}\n")
        lines.append("| row | unit | " + " | ".join(name for name, _ in columns) + " |")
        lines.append("|-|-|" + "-:|" * len(columns))
        for kind in CLASSES:
            rows = [row for row in results.rows() if row.startswith(kind + ".")]
            for row in rows:
                values = [_number(value(row, cpus)) for _, value in columns]
                if any(value != "-" for value in values):
                    lines.append(f"| {row} | {results.units[row]} | " + " | ".join(values) + " |")
            means = [_number(value(kind, cpus)) if "/" in name else "" for name, value in columns]
            if any(mean not in ("", "-") for mean in means):
                lines.append(f"| **{kind}, geometric mean** | | " + " | ".join(f"**{m}**" if m else "" for m in means) + " |")
    if 1 in results.cpus() and 2 in results.cpus():
        lines.append("\nThroughput of two vCPUs, times that of one\n")
        lines.append("| row | " + " | ".join(results.machines) + " |")
        lines.append("|-|" + "-:|" * len(results.machines))
        for row in results.rows():
            values = [_number(results.scaling(row, machine)) for machine in results.machines]
            if any(value != "-" for value in values):
                lines.append(f"| {row} | " + " | ".join(values) + " |")
        for kind in CLASSES:
            values = [_number(results.mean_scaling(kind, machine)) for machine in results.machines]
            if any(value != "-" for value in values):
                lines.append(f"| **{kind}, geometric mean** | " + " | ".join(f"**{value}**" for value in values) + " |")
    return "\n".join(lines)


def plot(results, cpus=1):
    """Bars of time over native on a logarithmic scale, or over the first machine where native has no such row."""
    left, width, bar, gap = 190, 620, 7, 8
    others = [machine for machine in results.machines if machine != "native"]
    rows = [row for row in results.rows() if any(results.ratio(row, other, "native", cpus) for other in others)]
    worst = max([results.ratio(row, other, "native", cpus) or 1 for row in rows for other in others] + [10])
    decades = math.log10(worst) + 0.1

    def x(ratio):
        return left + max(0.0, math.log10(ratio)) / decades * width

    height = 40 + len(rows) * (len(others) * bar + gap)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 60}" height="{height}" '
             'font-family="sans-serif" font-size="11">', '<rect width="100%" height="100%" fill="white"/>']
    for i, other in enumerate(others):
        parts.append(f'<text x="{left + i * 130}" y="14" fill="{COLOURS[i % len(COLOURS)]}">{html.escape(other)}</text>')
    for ratio in (factor * 10**decade for decade in range(4) for factor in (1, 2, 5)):
        if ratio <= worst:
            parts.append(f'<line x1="{x(ratio):.1f}" x2="{x(ratio):.1f}" y1="32" y2="{height}" stroke="#ddd"/>'
                         f'<text x="{x(ratio):.1f}" y="29" text-anchor="middle" fill="#666">{ratio}×</text>')
    y = 38
    for row in rows:
        parts.append(f'<text x="{left - 6}" y="{y + len(others) * bar / 2 + 4}" text-anchor="end">{html.escape(row)}</text>')
        for i, other in enumerate(others):
            ratio = results.ratio(row, other, "native", cpus)
            if ratio:
                parts.append(f'<rect x="{left}" y="{y}" width="{max(1.0, x(ratio) - left):.1f}" height="{bar - 1}" '
                             f'fill="{COLOURS[i % len(COLOURS)]}"/>')
            y += bar
        y += gap
    return "\n".join(parts) + "\n</svg>\n"
