"""The quick benchmarks, in one table: `python -m tests.benchmarks`, a few minutes; options as in `bench_network`."""

from tests.benchmarks.bench_network import main

if __name__ == "__main__":
    main()
