"""Webhooks: invoices and alerts posted to those who asked for them, by the Standard Webhooks specification.

- `endpoints`: who wants what, from a YAML file;
- `signing`: what makes a message trustworthy;
- `queue`: what is to be delivered, on disk, with what became of each try;
- `follow`: the topics into the queue; `sender`: the queue to the endpoints.
"""
