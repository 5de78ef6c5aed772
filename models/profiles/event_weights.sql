/* What each kind of event says of a shopper's taste: edit the csv, and the next plan rebuilds the profiles. */
MODEL (
  kind SEED (
    path './event_weights.csv'
  ),
  columns (
    event_type TEXT,
    weight DOUBLE,
    value_cap DOUBLE,
    repeat_cap DOUBLE,
    meaning TEXT
  ),
  column_descriptions (
    event_type = 'as in staging.interactions; the row default stands for all others',
    weight = 'of one event of value 1; below 0 pushes away, 0 is ignored',
    value_cap = 'most that the value of one event multiplies its weight by, as log2(1 + value)',
    repeat_cap = 'most that repetitions of an event on one item add up to',
    meaning = 'for people'
  ),
  grain event_type,
  ignored_rules ['nomissingunittest'], /* SQLMesh cannot test a seed: tests/models/test_event_weights.py does */
  audits (
    not_null(columns := (event_type, weight, value_cap, repeat_cap, meaning)),
    unique_values(columns := (event_type)),
    forall(criteria := (ISFINITE(weight) AND value_cap > 0 AND repeat_cap > 0)),
    has_default
  )
);
