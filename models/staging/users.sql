/* The accepted rows of the users file: one cleaned row for each shopper. */
MODEL (
  kind VIEW,
  grain user_id,
  audits (not_null(columns := (user_id)), unique_values(columns := (user_id)))
);

SELECT
  judged.user_id, /* the shop's id of the shopper */
  judged.segment /* group of the shopper; may be NULL */
FROM staging.judged_users AS judged
WHERE
  judged.reason IS NULL
