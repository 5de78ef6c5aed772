/* How the values of the catalogue are written, as a whole column shows or as contract.yaml declares. One row. */
MODEL (
  kind FULL,
  grain item_floats,
  audits (one_row, not_null(columns := (item_floats)))
);

WITH items AS (
  SELECT
    @are_floats(@something(raw.item_id, 'item_id', @declared_values)) AS item_floats,
    @the_only(@decimal_sign(raw.price)) AS decimal,
    COUNT(*) FILTER(WHERE
      @is_broken_text(raw.title) OR @is_broken_text(raw.description) OR @is_broken_text(raw.category)) AS broken_texts
  FROM raw.items AS raw
)
SELECT
  COALESCE(items.item_floats, FALSE) AS item_floats, /* whether the ids of items are whole numbers with .0 behind, which is left out */
  COALESCE(@declared('decimal', @declared_values), items.decimal)::TEXT AS price_decimal /* decimal sign of prices; NULL if no price shows it, or prices contradict each other */,
  items.broken_texts::INT AS broken_texts /* rows whose title, description or category is UTF-8 that was read as Windows-1252, such as CafÃ©; mend_texts in contract.yaml mends them */
FROM items
