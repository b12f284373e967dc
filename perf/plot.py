# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""Plots as SVG, without a library: grouped bars with the range of the rounds as whiskers."""
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 760, 320, 70, 40, 60
COLOURS = ("#1f6f8b", "#e07a5f", "#81b29a", "#f2cc8f", "#6d597a", "#b56576", "#355070", "#999999")
PLOTS = (
    ("null", "mpps", "To the null sink, million packets a second"),
    ("disk", "gbps", "To disk, GB a second"),
    ("disk", "mpps", "To disk, million packets a second"),
    ("memory", "mpps", "To memory (tmpfs), million packets a second"),
    ("stage", "mpps", "Stages: what is named is real, the rest dummies; million packets a second"),
    ("sessions", "mpps", "Captures at a time, by their filters; million packets a second"),
    ("veth", "cpu_s_mpkt", "Kernel interface, CPU seconds per million packets"),
)


def draw(run, directory, name):
    """Writes NAME-GROUP-METRIC.svg for what was measured; the paths."""
    paths = []
    for group, metric, title in PLOTS:
        bars = bars_of(run, group, metric)
        if bars:
            path = directory / f"{name}-{group}-{metric}.svg"
            path.write_text(svg(bars, title, caption(run)), encoding="utf-8")
            paths.append(path)
    return paths


def bars_of(run, group, metric):
    """[(case, [(who, [median, min, max])])]"""
    found = []
    for case in run["cases"]:
        contenders = run["summary"].get(case["name"], {})
        bars = [(who, contenders[who][metric]) for who in case["contenders"]
                if any(contenders.get(who, {}).get(metric, [0]))]  # fmt: skip
        if case["group"] == group and bars:
            found.append((case["name"].partition("-")[2], bars))
    return found


def caption(run):
    machine = run["machine"]
    return f"{machine['date'][:10]}, {machine['cpus']} CPUs of {machine['cpu']}; {run['command']}"


def scale(top):
    """A round number not below top, and the step of the grid."""
    step = 10 ** len(str(int(top)))
    step = next(s for s in (step / 50, step / 20, step / 10, step / 5, step / 2, step)
                if top / s <= 6)  # fmt: skip
    count = int(top / step) + 1
    return count * step, step


def svg(bars, title, foot):
    names = list(dict.fromkeys(who for _, group in bars for who, _ in group))
    top, step = scale(max(values[2] for _, group in bars for _, values in group))
    depth = HEIGHT - TOP - BOTTOM

    def y(value):
        return TOP + depth * (1 - value / top)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
           'font-family="sans-serif" font-size="11">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
           f'<text x="{LEFT}" y="18" font-size="14">{escape(title)}</text>']  # fmt: skip
    for i in range(int(top / step + 1.5)):
        at = y(i * step)
        out.append(f'<path d="M{LEFT} {at:.1f}H{WIDTH - 10}" stroke="#ddd"/>'
                   f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{i * step:g}</text>')
    room = (WIDTH - LEFT - 10) / len(bars)
    wide = room * 0.8 / len(names)
    for i, (label, group) in enumerate(bars):
        left = LEFT + i * room + room * 0.1
        out.append(f'<text x="{left + room * 0.4:.1f}" y="{HEIGHT - BOTTOM + 15}" '
                   f'font-size="{11 if len(bars) < 10 else 7}" '
                   f'text-anchor="middle">{escape(label)}</text>')  # fmt: skip
        for who, values in group:
            out += bar(left + names.index(who) * wide, wide, values, y,
                       COLOURS[names.index(who) % len(COLOURS)])  # fmt: skip
    out += legend(names)
    out.append(f'<text x="{LEFT}" y="{HEIGHT - 6}" font-size="9" fill="#666">{escape(foot)}</text>')
    out.append("</svg>\n")
    return "\n".join(out)


def bar(x, wide, values, y, colour):
    median, low, high = values
    middle = x + wide / 2
    return [
        f'<rect x="{x + 1:.1f}" y="{y(median):.1f}" width="{max(wide - 2, 1):.1f}" '
        f'height="{y(0) - y(median):.1f}" fill="{colour}"/>',
        f'<path d="M{middle:.1f} {y(low):.1f}V{y(high):.1f}" stroke="#333"/>',
        f'<text x="{middle:.1f}" y="{y(high) - 3:.1f}" text-anchor="middle" font-size="9">'
        f"{median:.3g}</text>",
    ]


def legend(names):
    out, x = [], LEFT
    for i, who in enumerate(names):
        out.append(f'<rect x="{x}" y="{HEIGHT - 34}" width="10" height="10" '
                   f'fill="{COLOURS[i % len(COLOURS)]}"/>'
                   f'<text x="{x + 14}" y="{HEIGHT - 25}">{escape(who)}</text>')  # fmt: skip
        x += 30 + 7 * len(who)
    return out
