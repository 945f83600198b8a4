"""Running a program that a model wrote, where it can do no harm.

| file | holds |
|---|---|
| limits.py | how much of everything a program gets |
| isolation.py | what this machine can isolate with, and the command that does |
| filter.py | the system calls a program may not make, as a seccomp program |
| inside.py | the last step before the program: limits, rights and filter, put on from inside |
| run.py | `run_program`: source in, Outcome out |
| outcome.py | how a run ended, by name |
| doctor.py | attacks of our own that must fail before any score counts |

Covered: the network, files of the host, processes of the host, processes and memory without end, output without end,
disk without end, time without end, being left behind, signals to others, system calls that widen what can be reached.

Not covered: faults of the kernel, timing and cache channels, how fast the processor runs for others, and the shape of
the machine (number of cores, kernel version). A program shares its interpreter with its own tests: one that goes
looking for the tests' secret in that interpreter's memory can lie about passing them, and gains nothing else.
"""
