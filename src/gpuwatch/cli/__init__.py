"""The command line: click commands, each imported on first use. Exit codes live here and nowhere else."""
