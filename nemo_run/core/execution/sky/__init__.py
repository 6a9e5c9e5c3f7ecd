"""What both SkyPilot engines share."""
