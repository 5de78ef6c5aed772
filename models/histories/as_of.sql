/* The time as of which the tables are built: later interactions are left out. One row. */
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
  ANY_VALUE(moment.as_of) AS as_of, /* VLM4REC_AS_OF, or the time of the latest interaction if that is not set; NULL without interactions */
  MAX(interactions.interacted_at) AS newest /* time of the latest interaction up to as_of; NULL if there is none */
FROM moment
LEFT JOIN staging.interactions AS interactions
  ON interactions.interacted_at <= moment.as_of
