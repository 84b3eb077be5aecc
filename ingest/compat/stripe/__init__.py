"""Stripe's billing meters as its clients speak them: meters, meter events, event summaries, adjustments, sessions."""
