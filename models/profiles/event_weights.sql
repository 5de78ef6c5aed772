/* How much each kind of event counts in a profile. Edit the csv file; the next plan rebuilds the profiles. */
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
    event_type = 'kind of event as in staging.interactions; the row default is for all other kinds',
    weight = 'weight of one event of value 1; negative for a dislike, 0 for an event that is ignored',
    value_cap = 'maximum of log2(1 + value), by which the weight of an event is multiplied',
    repeat_cap = 'maximum of the sum over repeated events of one kind on one item',
    meaning = 'the kind of event in words'
  ),
  grain event_type,
  ignored_rules ['nomissingunittest'], /* SQLMesh cannot test a seed: tests/models/test_event_weights.py does */
  audits (
    not_null(columns := (event_type, weight, value_cap, repeat_cap, meaning)),
    unique_values(columns := (event_type)),
    forall(criteria := (ABS(weight) < 1e308 AND value_cap > 0 AND repeat_cap > 0)),
    has_default
  )
);
