/* The refused rows of the users file as delivered, each with the reason (the rules stand in staging.judged_users). */
MODEL (
  kind VIEW,
  grain row_number,
  audits (not_null(columns := (row_number, reason, record)), unique_values(columns := (row_number)))
);

SELECT
  judged.row_number, /* number of the row in the file, from 1 */
  judged.user_id, /* the shop's id of the shopper, if the row has one */
  judged.reason, /* why the row is refused */
  TO_JSON(
    STRUCT_PACK(user_id := raw.user_id, segment := raw.segment, attributes := raw.attributes)
  )::JSON AS record /* the whole row as delivered */
FROM staging.judged_users AS judged
INNER JOIN raw.users AS raw
  ON raw.row_number = judged.row_number
WHERE
  NOT judged.reason IS NULL
