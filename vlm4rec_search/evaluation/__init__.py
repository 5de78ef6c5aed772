"""Did it help? Systems compared on the same users and the same candidates, with an interval on every number.

`protocol` says who is asked what, `data` holds what a system may see, `snapshots` rebuilds the product's own tables as
of an earlier moment, `systems` rank, `metrics` and `significance` judge, `results` and `report` tell.
"""
