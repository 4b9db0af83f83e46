"""Values of rows on machines, over rounds; medians, ratios and geometric means of them."""

import math
import statistics
from collections import defaultdict

CLASSES = ("integer", "floating", "system", "boot", "whole")


class Results:
    """Of every row, machine and number of processors, the values of all rounds. Smaller is better throughout."""

    def __init__(self):
        self._values = defaultdict(list)
        self.units = {}
        self.machines = []

    def add(self, machine, cpus, row, unit, value):
        self.units.setdefault(row, unit)
        if machine not in self.machines:
            self.machines.append(machine)
        self._values[row, machine, cpus].append(value)

    def add_lines(self, machine, cpus, lines):
        """Lines of the guest program: "name value unit checksum"; a value of - is a row that the machine does not have. And
        what `openssl speed -mr` says: +F:index:name:bytes a second, +F4:index:bits:signatures a second:verifications a second."""
        for line in lines:
            fields = line.split()
            openssl = line.split(":")
            if openssl[0] == "+F":
                self.add(machine, cpus, f"whole.openssl-{openssl[2].lower()}", "ns/byte", cpus * 1e9 / float(openssl[3]))
            elif openssl[0] == "+F4":
                self.add(machine, cpus, f"whole.openssl-sign-p{openssl[2]}", "ns/call", cpus * 1e9 / float(openssl[3]))
            elif len(fields) == 4 and "." in fields[0] and fields[1] != "-":
                self.add(machine, cpus, fields[0], fields[2], float(fields[1]))

    def rows(self):
        return sorted(self.units, key=lambda row: CLASSES.index(row.split(".")[0]))

    def cpus(self):
        return sorted({cpus for _, _, cpus in self._values})

    def median(self, row, machine, cpus):
        values = self._values.get((row, machine, cpus))
        return statistics.median(values) if values else None

    def ratio(self, row, above, below, cpus):
        over, under = self.median(row, above, cpus), self.median(row, below, cpus)
        return over / under if over and under and over > 0 and under > 0 else None

    def geometric_mean(self, kind, above, below, cpus):
        ratios = [self.ratio(row, above, below, cpus) for row in self.rows() if row.startswith(kind + ".")]
        return self._mean(ratios)

    @staticmethod
    def _mean(ratios):
        ratios = [ratio for ratio in ratios if ratio]
        return math.exp(statistics.fmean(map(math.log, ratios))) if ratios else None

    def scaling(self, row, machine):
        """How much more two processors do than one."""
        one, two = self.median(row, machine, 1), self.median(row, machine, 2)
        return 2 * one / two if one and two and one > 0 and two > 0 else None

    def mean_scaling(self, kind, machine):
        return self._mean([self.scaling(row, machine) for row in self.rows() if row.startswith(kind + ".")])

    def to_json(self):
        return {
            "units": self.units,
            "values": [{"row": row, "machine": machine, "cpus": cpus, "rounds": values, "median": statistics.median(values)}
                       for (row, machine, cpus), values in self._values.items()],
            "geometric_means": [{"class": kind, "cpus": cpus, "machine": machine, "over": other, "ratio": mean}
                                for kind in CLASSES for cpus in self.cpus() for machine in self.machines
                                for other in self.machines
                                if machine != other and (mean := self.geometric_mean(kind, machine, other, cpus))],
        }
