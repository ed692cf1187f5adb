"""The operating system: clocks, files, forks, output, host names."""
