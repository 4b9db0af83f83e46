"""Python of many kinds: integers, floats, strings, dictionaries, objects, a sort. The result goes to the file $OUTPUT."""

import os


class Vector:
    def __init__(self, x, y):
        self.x, self.y = x, y

    def __add__(self, other):
        return Vector(self.x + other.x, self.y + other.y)


def primes(limit):
    sieve = bytearray([1]) * limit
    for i in range(2, int(limit**0.5) + 1):
        if sieve[i]:
            sieve[i * i :: i] = bytes(len(range(i * i, limit, i)))
    return [i for i in range(2, limit) if sieve[i]]


def words(count):
    counts = {}
    state = 1
    for _ in range(count):
        state = state * 1103515245 + 12345 & 0x7FFFFFFF
        word = "w%d" % (state >> 16 & 0x3FF)
        counts[word] = counts.get(word, 0) + 1
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:10]


def spiral(steps):
    at, step = Vector(0.0, 0.0), Vector(1.0, 0.5)
    for _ in range(steps):
        at += step
        step = Vector(step.x * 0.999 - step.y * 0.01, step.y * 0.999 + step.x * 0.01)
    return at.x, at.y


def fibonacci(n):
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


with open(os.environ["OUTPUT"], "w") as output:
    print(sum(primes(1000000)), words(300000), spiral(300000), fibonacci(25), 3**5000 % 10**40, file=output)
