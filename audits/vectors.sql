AUDIT (
  name unit_vectors,
  dialect duckdb,
  defaults (
    tolerance = 0.001
  )
);

/* Vectors whose length is not 1; NaN and NULL inside have none. Whether a row may lack its vector is for not_null. */
SELECT
  *
FROM @this_model
WHERE
  NOT @column IS NULL
  AND NOT COALESCE(
    LIST_COUNT(@column) = LENGTH(@column)
    AND ABS(SQRT(LIST_SUM(LIST_TRANSFORM(@column, x -> x * x))) - 1) <= @tolerance,
    FALSE
  );

AUDIT (
  name one_dimension,
  dialect duckdb
);

/* Vectors whose dimension is not that of the first. */
SELECT
  *
FROM @this_model
WHERE
  LENGTH(@column) <> (
    SELECT
      MIN(LENGTH(@column))
    FROM @this_model
  )