AUDIT (
  name one_row,
  dialect duckdb
);

/* The number of rows, when it is not one. */
SELECT
  COUNT(*) AS row_count
FROM @this_model
HAVING
  COUNT(*) <> 1;

AUDIT (
  name at_least,
  dialect duckdb
);

/* Rows whose value lies below the bound. */
SELECT
  *
FROM @this_model
WHERE
  @column < @bound;

AUDIT (
  name has_default,
  dialect duckdb
);

/* The number of rows that stand for every other event type, when it is not one. */
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

/* Rows whose text is HTML or page script. */
SELECT
  *
FROM @this_model
WHERE
  REGEXP_MATCHES(@column, @markup);

AUDIT (
  name in_order,
  dialect duckdb
);

/* Rows that happened before their predecessor. */
SELECT
  *
FROM @this_model
QUALIFY
  @time < LAG(@time) OVER (PARTITION BY @partition ORDER BY @position);

AUDIT (
  name caption_or_error,
  dialect duckdb
);

/* Rows that are neither a caption nor a failure with its reason. */
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

/* Rows that lie after the bound. */
SELECT
  *
FROM @this_model
WHERE
  @column > @bound