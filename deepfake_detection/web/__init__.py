"""The web page, the JSON API and the queue behind them (`serve.py`).

`app` answers HTTP, `uploads` streams files to the disk, `store` is the SQLite table that survives restarts, `service` runs the workers
and clears up, `callbacks` warns platforms. Files from strangers are decoded in `detector.pool`'s child processes only.
"""
