/* The shoppers that the shop tells more of than their histories: one clean row each. */
MODEL (
  kind VIEW,
  grain user_id,
  audits (not_null(columns := (user_id)), unique_values(columns := (user_id)))
);

SELECT
  judged.user_id, /* the shop's id of the shopper */
  judged.segment /* group that the shopper belongs to; may be NULL */
FROM staging.judged_users AS judged
WHERE
  judged.reason IS NULL
