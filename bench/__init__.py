"""The benchmark: what this relay costs, beside the relays people use instead.

`python -m bench` runs everything there is; `python -m bench relay --help` shows what can be chosen.

- `load.c`, `load`    client and server of every measurement, one process on one core
- `peers`             which relays can be measured, and how each is configured
- `process`           start on a core, CPU in nanoseconds, memory, and a sure end
- `rows`              what is measured: one line in `ROWS` a row
- `relay`             rounds, interleaved: A B C, B C A, …
- `table`             medians, spreads, ratios; text and JSON
- `gauntlet`          the second benchmark: time to first byte on bad paths, in the lab
- `paths`, `runners`  its rows and its columns
"""
