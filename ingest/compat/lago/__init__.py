"""Lago's API as its clients speak it: events, billable metrics, plans, customers, subscriptions, current usage."""
