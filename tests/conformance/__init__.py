"""Does the package offer the whole public surface that programs written for NeMo-Run use?

``api_surface.json`` lists it; ``missing.txt`` lists what is not there yet, and may only shrink.
"""
