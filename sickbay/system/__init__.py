"""What is the operating system's: the clock, files, forks, output, names of hosts."""
