"""The built-in shop (drawn photos, simulated shoppers) and the simulator of histories for a real catalogue."""
