"""The machine: devices, the clock, the environment a measurement is made in.

May import: Nothing of specpress. Read first: devices.py.
"""
