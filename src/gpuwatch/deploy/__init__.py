"""``gpuwatch deploy``: what is to be done on a machine (pure data), the program that does it there, and the runner that sends it over ssh.

Never decides anything on the other machine: that one only tells how it is, and carries out a list of steps.
"""
