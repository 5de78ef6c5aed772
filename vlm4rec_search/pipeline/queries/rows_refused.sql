-- What was refused, rows and single values, by reason, and on which lines of the files?
WITH refused AS (
    SELECT items.file, 'row' AS what, items.reason, items.line, items.record::VARCHAR AS record
    FROM staging.rejected_items AS items
    UNION ALL
    SELECT items.file, rejected.field, rejected.reason, items.line, rejected.value
    FROM staging.rejected_values AS rejected
    INNER JOIN raw.items AS items ON items.row_number = rejected.row_number
    UNION ALL
    SELECT interactions.file, 'row', interactions.reason, interactions.line, interactions.record::VARCHAR
    FROM staging.rejected_interactions AS interactions
    UNION ALL
    SELECT users.file, 'row', users.reason, users.line, users.record::VARCHAR FROM staging.rejected_users AS users
)
SELECT
    refused.file,
    refused.what,
    refused.reason,
    COUNT(*) AS refused,
    LIST(refused.line ORDER BY refused.line)[:5] AS first_lines,
    ARG_MIN(refused.record, refused.line) AS example
FROM refused
GROUP BY refused.file, refused.what, refused.reason
ORDER BY refused.file, refused DESC, refused.reason
