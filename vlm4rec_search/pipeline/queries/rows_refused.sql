-- What was refused, rows and single values, by reason, and in which rows of the files?
WITH refused AS (
    SELECT 'items' AS file, 'row' AS what, items.reason, items.row_number, items.record::VARCHAR AS record
    FROM staging.rejected_items AS items
    UNION ALL
    SELECT 'items', field, reason, row_number, value FROM staging.rejected_values
    UNION ALL
    SELECT 'interactions', 'row', interactions.reason, interactions.row_number, interactions.record::VARCHAR
    FROM staging.rejected_interactions AS interactions
    UNION ALL
    SELECT 'users', 'row', users.reason, users.row_number, users.record::VARCHAR FROM staging.rejected_users AS users
)
SELECT
    refused.file,
    refused.what,
    refused.reason,
    COUNT(*) AS rows,
    LIST(refused.row_number ORDER BY refused.row_number)[:5] AS first_rows,
    ARG_MIN(refused.record, refused.row_number) AS example
FROM refused
GROUP BY refused.file, refused.what, refused.reason
ORDER BY refused.file, rows DESC, refused.reason
