"""What a device costs: measured rates (Profile) and the seconds of one operation (OpTimes)."""
