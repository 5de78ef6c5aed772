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
    ARRAY_LENGTH(LIST_FILTER(@column, x -> NOT x IS NULL)) = ARRAY_LENGTH(@column)
    AND ABS(SQRT(@list_total(LIST_TRANSFORM(@column, x -> CAST(x AS DOUBLE) * x))) - 1) <= @tolerance,
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
  ARRAY_LENGTH(@column) <> (
    SELECT
      MIN(ARRAY_LENGTH(@column))
    FROM @this_model
  )