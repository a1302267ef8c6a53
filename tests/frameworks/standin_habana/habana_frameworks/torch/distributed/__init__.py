"""What HPUs talk by."""
