"""The bars of PRODUCT.md section 10, the samples against them, and the table."""

import math
import os
import platform


class Row:
    """One line of the table: samples of one quantity, and what they have to keep to."""

    def __init__(self, what, unit, samples, bars=None, cosmovisor="", note=""):
        self.what, self.unit, self.note, self.cosmovisor = what, unit, note, cosmovisor
        self.samples = sorted(samples)
        self.bars = bars or {}

    def at(self, which):
        """p50, p95, p99 (by nearest rank) or max."""
        share = {"p50": 0.50, "p95": 0.95, "p99": 0.99, "max": 1.0}[which]
        return self.samples[max(0, math.ceil(share * len(self.samples)) - 1)]

    def verdict(self):
        if not self.bars:
            return ""
        missed = [which for which, bar in self.bars.items() if self.at(which) > bar]
        return "MISSED " + ",".join(missed) if missed else "kept"

    def cells(self):
        """As texts, in the order of `HEAD`."""
        figures = ["p50", "p95", "p99", "max"] if len(self.samples) > 1 else ["p50"]
        shown = [number(self.at(which)) for which in figures] + [""] * (4 - len(figures))
        bar = ", ".join(f"{which} ≤ {bar:g}" if len(self.samples) > 1 else f"≤ {bar:g}" for which, bar in self.bars.items())
        return [self.what, self.unit, *shown, str(len(self.samples)), bar, self.verdict(), self.cosmovisor]


HEAD = ["what", "unit", "p50", "p95", "p99", "max", "n", "bar", "", "cosmovisor"]


def number(value):
    if value == int(value) and abs(value) >= 1:
        return str(int(value))
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"


def show(title, rows):
    """A Markdown table that is also readable as it is."""
    cells = [HEAD] + [row.cells() for row in rows]
    widths = [max(3, *(len(line[column]) for line in cells)) for column in range(len(HEAD))]
    figures = range(2, 7)
    print(f"\n## {title}\n")
    for index, line in enumerate(cells):
        padded = [
            text.rjust(width) if column in figures else text.ljust(width)
            for column, (text, width) in enumerate(zip(line, widths))
        ]
        print("| " + " | ".join(padded) + " |")
        if index == 0:
            rule = ["-" * max(width - 1, 2) + ":" if column in figures else "-" * width for column, width in enumerate(widths)]
            print("| " + " | ".join(rule) + " |")
    notes = [f"- {row.what}: {row.note}" for row in rows if row.note]
    if notes:
        print("\n" + "\n".join(notes))


def machine(directory):
    """What the figures were taken on, in one line."""
    model = "unknown processor"
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    with open("/proc/meminfo") as file:
        memory = int(file.readline().split()[1]) >> 20
    with open("/proc/loadavg") as file:
        load = " ".join(file.read().split()[:3])
    return (
        f"{os.cpu_count()} × {model}, {memory} GiB, Linux {platform.release()}, load {load}, "
        f"forced write of 4 KiB in {directory}: {forced_write(directory):.2f} ms (median)"
    )


def forced_write(directory):
    """The median time of fdatasync after 4 KiB, in milliseconds: what every durable step costs at least."""
    import tempfile
    import time

    spans = []
    with tempfile.TemporaryFile(dir=directory) as file:
        for _ in range(50):
            os.write(file.fileno(), b"x" * 4096)
            before = time.perf_counter()
            os.fdatasync(file.fileno())
            spans.append((time.perf_counter() - before) * 1000)
    return sorted(spans)[len(spans) // 2]
