"""Stages side by side: one controller, and three engines that run the stages: this machine, Ray and Slurm."""
