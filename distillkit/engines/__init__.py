"""Stages side by side: one controller, and three engines that run them: this machine, Ray, Slurm."""
