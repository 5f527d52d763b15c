"""The web page, the JSON API and the queue behind them (`serve.py`).

`app` answers HTTP with the objects of `schema`, `access` says who may call, `connections` closes those that bring
nothing, `uploads` streams files to the disk (out of `forms`, mostly), `store` is the SQLite table that survives
restarts, `service` runs the workers and clears up, `callbacks` warns platforms. Files from strangers are decoded in
`prediction.pool`'s child processes only.
"""
