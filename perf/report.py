# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""From trials to numbers: medians with their range, tables, and what of the targets holds."""
import dataclasses
import statistics

METRICS = {
    # name: (of one trial, unit, digits)
    "mpps": (lambda r: r["packets"] / r["seconds"] / 1e6, "Mpps", 3),
    "gbps": (lambda r: r.get("file_bytes", 0) / r["seconds"] / 1e9, "GB/s", 3),
    "cpu_s_mpkt": (lambda r: r["cpu_seconds"] / r["packets"] * 1e6, "CPU s/Mpkt", 4),
    "cpu_s_gb": (lambda r: r["cpu_seconds"] / r["file_bytes"] * 1e9, "CPU s/GB", 3),
    "cycles": (lambda r: r["cycles_per_packet"], "cycles/pkt", 1),
    "stop_ms": (lambda r: r["stop_seconds"] * 1e3, "stop ms", 0),
    "dropped": (lambda r: r["dropped"], "dropped", 0),
    "lost": (lambda r: r["lost"], "lost", 0),
    "memory_mb": (lambda r: r["memory_bytes"] / 1e6, "RSS MB", 0),
    "stage_cycles": (lambda r: r["stage_cycles"], "cycles", 1),
    "ndr": (lambda r: r["ndr_mpps"], "zero-loss Mpps", 3),
    "pdr": (lambda r: r["pdr_mpps"], "0.1 %-loss Mpps", 3),
    "burst": (lambda r: r["burst_packets"], "burst packets", 0),
    "ns_session": (lambda r: r["seconds"] / r["packets"] * 1e9, "ns/pkt", 2),
    "error_us": (lambda r: r["check"]["error_p99_ns"] / 1e3, "p99 error us", 1),
    "gaps": (lambda r: r["gaps"]["count"], "gaps", 0),
    "behind": (lambda r: r["behind_ms"], "behind ms", 1),
    "zero_deltas": (
        lambda r: r["check"]["zero_steps"] / r["check"]["steps"] * 100, "% zero deltas", 2,
    ),
}  # fmt: skip
COLUMNS = ("mpps", "gbps", "cpu_s_mpkt", "cpu_s_gb", "cycles", "stop_ms", "memory_mb",
           "zero_deltas")  # fmt: skip
GROUP_COLUMNS = {
    "paced": ("mpps", "gbps", "dropped", "behind", "gaps", "cycles", "stop_ms"),
    "stage": ("mpps", "gbps", "dropped", "stage_cycles"),
    "push": ("mpps", "ndr", "pdr", "dropped", "error_us", "zero_deltas"),
    "burst": ("burst",),
    "sessions": ("mpps", "ns_session", "cycles", "memory_mb"),
    "merge": ("gbps",),
}


def case_fact(case):
    return dataclasses.asdict(case)


def machine_line(facts):
    return (
        f"{facts['date']}: {facts['cpus']} CPUs of {facts['cpu']}"
        f"{' (virtual)' if facts['virtual'] else ''}, {facts['memory_bytes'] / 2**30:.0f} GiB, "
        f"{facts['system']}, kernel {facts['kernel']}, {facts['disk']['file_system']} on "
        f"{facts['disk']['source']}; RX on CPU {facts['rx_cpu']}, the rest on {facts['writer_cpu']}"
    )


def value_of(result, metric):
    try:
        return METRICS[metric][0](result)
    except (KeyError, ZeroDivisionError):
        return None


def summarise(run):
    """{case: {contender: {metric: [median, min, max]}}}"""
    found = {}
    for result in run["trials"]:
        if result.get("failed"):
            continue
        rows = found.setdefault(result["case"], {}).setdefault(result["contender"], {})
        for metric in METRICS:
            value = value_of(result, metric)
            if value is not None:
                rows.setdefault(metric, []).append(value)
    return {
        case: {
            contender: {
                metric: [statistics.median(values), min(values), max(values)]
                for metric, values in rows.items()
            }
            for contender, rows in contenders.items()
        }
        for case, contenders in found.items()
    }


def text(run):
    parts = [machine_line(run["machine"]), f"command: {run['command']}", ""]
    for group in dict.fromkeys(case["group"] for case in run["cases"]):
        parts += table([c for c in run["cases"] if c["group"] == group], run["summary"])
        parts.append("")
    parts += holds_table(run["holds"])
    return "\n".join(parts)


def table(cases, summary):
    """A group's cases: median (min–max) where there is something to say."""
    rows = [(c["name"], who, summary[c["name"]][who]) for c in cases if c["name"] in summary
            for who in c["contenders"] if who in summary[c["name"]]]  # fmt: skip
    wanted = GROUP_COLUMNS.get(cases[0]["group"], COLUMNS)
    columns = [m for m in wanted if any(any(row[2].get(m, [0])) for row in rows)]
    lines = [["case", "who"] + [METRICS[m][1] for m in columns]]
    for name, who, values in rows:
        lines.append([name, who] + [cell(values.get(m), METRICS[m][2]) for m in columns])
    return aligned(lines)


def cell(values, digits):
    if values is None or not any(values):
        return "-"
    median, low, high = (f"{v:.{digits}f}" for v in values)
    return median if low == high else f"{median} ({low}–{high})"


def aligned(lines):
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    out = ["| " + " | ".join(w.ljust(n) for w, n in zip(line, widths)) + " |" for line in lines]
    out.insert(1, "|" + "|".join("-" * (n + 2) for n in widths) + "|")
    return out


# Targets --------------------------------------------------------------------------------------


def holds(run):
    """[{what, target, measured, met}]: met None = not measured in this run."""
    get = Numbers(run)
    rows = []

    def row(what, target, measured, met, unit=""):
        known = measured is not None
        rows.append({"what": what, "target": target,
                     "measured": f"{measured:.3g}{unit}" if isinstance(measured, float) else measured,
                     "met": bool(met(measured)) if known else None})  # fmt: skip

    row("64 B, null sink", "0.55 x the bare source",
        get.ratio("null-64", "sluice", "bare", "mpps"), lambda v: v >= 0.55, " x")  # fmt: skip
    row("64 B to disk, paced at 37.2 Mpps, zero loss", "in 4 of 5 rounds",
        get.paced("paced-disk-64"), lambda v: v.met)  # fmt: skip
    row("64 B to the null sink, paced at 37.2 Mpps, zero loss", "in 4 of 5 rounds",
        get.paced("paced-null-64"), lambda v: v.met)  # fmt: skip
    for peer in get.peers():
        row(f"64 B to disk against {peer}, packets", "more",
            get.ratio("disk-64", "sluice", peer, "mpps"), lambda v: v > 1, " x")  # fmt: skip
        row(f"64 B to disk against {peer}, bytes", "1.2 x",
            get.ratio("disk-64", "sluice", peer, "gbps"), lambda v: v >= 1.2, " x")  # fmt: skip
        row(f"1518 B to disk against {peer}", "1.4 x",
            get.ratio("disk-1518", "sluice", peer, "gbps"), lambda v: v >= 1.4, " x")  # fmt: skip
    row("1518 B to disk", "0.95 x the raw ceiling",
        get.of_ceiling("disk-1518", "sluice", "gbps"), lambda v: v >= 0.95, " x")
    row("64 B to disk", "25 x dpdk-dumpcap",
        get.ratio("disk-64", "sluice", "dpdk-dumpcap", "mpps"), lambda v: v >= 25, " x")
    row("1518 B to disk", "20 x dpdk-dumpcap",
        get.ratio("disk-1518", "sluice", "dpdk-dumpcap", "mpps"), lambda v: v >= 20, " x")
    row("same veth traffic, CPU seconds per packet", "0.5 x the best of the kernel's tools",
        get.veth(), lambda v: v <= 0.5, " x")  # fmt: skip
    row("one filter that keeps 10 %, 64 B", "0.6 x the bare source",
        get.offered("filter-64", "filter-64"), lambda v: v >= 0.6, " x")  # fmt: skip
    row("64 rejecting filters, 64 B, per session and packet", "at most 4 ns",
        get.marginal("sessions-rejecting-64", 64), lambda v: v <= 4, " ns")  # fmt: skip
    row("256 captures with 5-tuple filters, 64 B", "12 Mpps",
        get.median("sessions-tuple-256", "sessions", "mpps"), lambda v: v >= 12, " Mpps")
    row("256 captures with 5-tuple filters against 64, cost", "less than 4 x",
        get.growth("sessions-tuple-256", "sessions-tuple-64"), lambda v: v < 4, " x")
    row("stop of a 10 GB single-lane capture", "1 s",
        get.stop("fit-disk-64"), lambda v: v <= 1, " s")  # fmt: skip
    row("merge of two lanes", "1 GB/s or the disk's ceiling",
        get.median("merge", "merge", "gbps"),
        lambda v: v >= min(1, get.median("ceiling-disk", "raw-fresh", "gbps") or 1), " GB/s")
    row("64 B to disk, paced at 0.8 of the raw ceiling, zero loss", "in 4 of 5 rounds",
        get.paced("fit-disk-64"), lambda v: v.met)  # fmt: skip
    broken = sum(len(trial["breaks"]) for trial in run["trials"])
    row("unexplained packets, broken books, failed trials", "0", broken, lambda v: v == 0)
    return rows


class Rounds(str):
    met = False


class Numbers:
    def __init__(self, run):
        self.trials, self.summary = run["trials"], run["summary"]

    def peers(self):
        own = ("sluice", "dpdk-dumpcap")
        return [who for who in self.summary.get("disk-64", {}) if who not in own]

    def median(self, case, who, metric):
        values = self.summary.get(case, {}).get(who, {}).get(metric)
        return values[0] if values else None

    def ratio(self, case, who, other, metric):
        a, b = self.median(case, who, metric), self.median(case, other, metric)
        return a / b if a is not None and b else None

    def of_ceiling(self, case, who, metric):
        """Against the better of a new file and a spare: which of the two a capture gets is its luck."""
        a = self.median(case, who, metric)
        raw = [self.median("ceiling-disk", name, metric) for name in ("raw-fresh", "raw-spare")]
        raw = [value for value in raw if value]
        return a / max(raw) if a is not None and raw else None

    def of(self, case, who):
        return [t for t in self.trials
                if t["case"] == case and t["contender"] == who and not t.get("failed")]  # fmt: skip

    def paced(self, case):
        trials = self.of(case, "sluice")
        if not trials:
            return None
        good = sum(1 for t in trials if t["kept_up"] and t["dropped"] == 0)
        found = Rounds(f"{good} of {len(trials)}")
        found.met = good >= 0.8 * len(trials)
        return found

    def marginal(self, case, n):
        """Nanoseconds that each of n sessions adds to a packet, over the bare source."""
        rate = self.median(case, "sessions", "mpps")
        bare = self.median("null-64", "bare", "mpps")
        return (1e3 / rate - 1e3 / bare) / n if rate and bare else None

    def growth(self, case, fewer):
        a, b = self.median(case, "sessions", "mpps"), self.median(fewer, "sessions", "mpps")
        return b / a if a and b else None

    def stop(self, case):
        values = self.summary.get(case, {}).get("sluice", {}).get("stop_ms")
        return values[0] / 1e3 if values else None

    def veth(self):
        tools = [self.median("veth-64", who, "cpu_s_mpkt")
                 for who in ("tcpdump", "dumpcap", "netsniff-ng")]  # fmt: skip
        tools = [value for value in tools if value]
        own = self.median("veth-64", "sluice", "cpu_s_mpkt")
        return own / min(tools) if own and tools else None

    def offered(self, case, bare_case):
        rates = [t["offered"] / t["seconds"] / 1e6 for t in self.of(case, "sluice")]
        bare = self.median(bare_case, "bare", "mpps")
        return statistics.median(rates) / bare if rates and bare else None


def holds_table(rows):
    words = {True: "yes", False: "NO", None: "not measured"}
    lines = [["what", "at least", "measured", "holds"]]
    for row in rows:
        measured = "-" if row["measured"] is None else str(row["measured"])
        lines.append([row["what"], row["target"], measured, words[row["met"]]])
    return aligned(lines)
