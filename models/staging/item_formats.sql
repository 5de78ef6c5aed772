/* How each file of the catalogue writes its values, as its columns show or as contract.yaml declares. What a file does not show, the other files of the table show. */
MODEL (
  kind FULL,
  grain file,
  audits (unique_values(columns := (file)), not_null(columns := (file, item_floats, broken_texts)))
);

WITH rows AS (
  SELECT
    raw.file,
    @something(@normal_form(raw.item_id), 'item_id', @declared_values) AS item_id,
    @decimal_sign(@normal_form(raw.price)) AS decimal,
    @is_broken_text(raw.title) OR @is_broken_text(raw.description) OR @is_broken_text(raw.category) AS is_broken
  FROM raw.items AS raw
), files AS (
  SELECT
    rows.file,
    COALESCE(@are_floats(rows.item_id), FALSE) AS item_floats,
    @the_only(rows.decimal) AS decimal,
    COUNT(rows.decimal) > 0 AS has_decimal,
    COUNT(*) FILTER(WHERE
      rows.is_broken) AS broken_texts
  FROM rows
  GROUP BY
    rows.file
), whole AS (
  SELECT
    CASE WHEN NOT BOOL_OR(files.has_decimal AND files.decimal IS NULL) THEN @the_only(files.decimal) END AS decimal
  FROM files
)
SELECT
  files.file::TEXT AS file, /* path of the file in the data folder */
  files.item_floats::BOOLEAN AS item_floats, /* whether the ids of items are whole numbers with .0 behind, which is left out */
  COALESCE(
    @declared('decimal', @declared_values),
    files.decimal,
    CASE WHEN NOT files.has_decimal THEN whole.decimal END
  )::TEXT AS price_decimal, /* decimal sign of prices; NULL if no price shows it, or prices contradict each other */
  files.broken_texts::INT AS broken_texts /* rows whose title, description or category is UTF-8 that was read as Windows-1252, such as CafÃ©; mend_texts in contract.yaml mends them */
FROM files
CROSS JOIN whole
