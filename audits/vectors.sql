AUDIT (
  name unit_vectors,
  dialect duckdb,
  defaults (
    tolerance = 0.001
  )
);

/* Vectors whose length is not 1, or that contain NaN or NULL. Rows without a vector pass; not_null refuses them. */
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

/* Vectors that do not have the smallest dimension of the column. */
SELECT
  *
FROM @this_model
WHERE
  LENGTH(@column) <> (
    SELECT
      MIN(LENGTH(@column))
    FROM @this_model
  )