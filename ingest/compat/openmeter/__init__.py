"""OpenMeter's HTTP API: their SDKs, with another base URL, send events here and ask for usage and entitlements."""
