-- What was refused, by reason, and in which rows of the files?
WITH refused AS (
    SELECT 'items' AS file, items.reason, items.row_number, items.record FROM staging.rejected_items AS items
    UNION ALL
    SELECT 'interactions', interactions.reason, interactions.row_number, interactions.record
    FROM staging.rejected_interactions AS interactions
    UNION ALL
    SELECT 'users', users.reason, users.row_number, users.record FROM staging.rejected_users AS users
)
SELECT
    refused.file,
    refused.reason,
    COUNT(*) AS rows,
    LIST(refused.row_number ORDER BY refused.row_number)[:5] AS first_rows,
    ARG_MIN(refused.record, refused.row_number) AS example
FROM refused
GROUP BY refused.file, refused.reason
ORDER BY refused.file, rows DESC, refused.reason
