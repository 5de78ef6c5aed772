AUDIT (
  name one_row,
  dialect duckdb
);

/* Fails unless the table has exactly one row. */
SELECT
  COUNT(*) AS row_count
FROM @this_model
HAVING
  COUNT(*) <> 1;

AUDIT (
  name at_least,
  dialect duckdb
);

/* Rows whose value is below the bound, infinite or NaN, which is larger than any other number. */
SELECT
  *
FROM @this_model
WHERE
  @column < @bound OR @column >= 1e308;

AUDIT (
  name has_default,
  dialect duckdb
);

/* Fails unless exactly one row is for the event type `default`. */
SELECT
  COUNT(*) AS row_count
FROM @this_model
WHERE
  event_type = 'default'
HAVING
  COUNT(*) <> 1;

AUDIT (
  name no_markup,
  dialect duckdb
);

/* Rows whose text contains HTML or page script. */
SELECT
  *
FROM @this_model
WHERE
  @contains(@column, @markup);

AUDIT (
  name in_order,
  dialect duckdb
);

/* Rows with an earlier time than the row at the position before. */
SELECT
  *
FROM @this_model
QUALIFY
  @time < LAG(@time) OVER (PARTITION BY @partition ORDER BY @position);

AUDIT (
  name caption_or_error,
  dialect duckdb
);

/* Rows that have status ok without a caption, or another status with a caption or without an error. */
SELECT
  *
FROM @this_model
WHERE
  CASE
    WHEN status = 'ok'
    THEN COALESCE(TRIM(caption), '') = ''
    ELSE NOT caption IS NULL OR error IS NULL
  END;

AUDIT (
  name in_time,
  dialect duckdb
);

/* Rows whose time is after the bound. */
SELECT
  *
FROM @this_model
WHERE
  @column > @bound