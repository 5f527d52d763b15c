"""The web page, the JSON API and the queue behind them (`serve.py`).

`app` joins the `api`, which answers with the objects of `schema`, and the `pages`; `access` says who may call,
`connections` closes those that bring nothing, `intake` takes a video into the queue, which `uploads` streams to the
disk (out of `forms`, mostly), `store` is the SQLite table that survives restarts, in its `store_folder`, `service` runs
the workers and clears up, `callbacks` warns platforms. Files from strangers are decoded in
`prediction.pool`'s child processes only.
"""
