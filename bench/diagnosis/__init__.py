"""How often runtrue names the right cause, cures it, and keeps silent on healthy networks: see README.md."""
