/* The moment of the tables: what lies after it does not exist yet. One row. */
MODEL (
  kind FULL,
  grain as_of,
  audits (one_row, in_time(column := newest, bound := as_of))
);

WITH moment AS (
  SELECT
    COALESCE(@VAR('as_of')::TIMESTAMP, MAX(interactions.interacted_at)) AS as_of
  FROM staging.interactions AS interactions
)
SELECT
  ANY_VALUE(moment.as_of) AS as_of, /* VLM4REC_AS_OF, else the latest interaction; NULL when there is neither */
  MAX(interactions.interacted_at) AS newest /* the latest interaction up to then; NULL when there is none */
FROM moment
LEFT JOIN staging.interactions AS interactions
  ON interactions.interacted_at <= moment.as_of
