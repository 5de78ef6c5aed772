-- What do captions cost, by month and captioner, and each of them?
SELECT
    STRFTIME(ledger.started_at, '%Y-%m') AS month,
    ledger.producer AS captioner,
    SUM(ledger.computed)::BIGINT AS captions,
    SUM(ledger.failed)::BIGINT AS failed,
    ROUND(SUM(ledger.cost), 2) AS cost,
    ROUND(SUM(ledger.cost) / NULLIF(SUM(ledger.computed), 0), 6) AS cost_per_caption,
    ROUND(SUM(ledger.tokens_in + ledger.tokens_out) / NULLIF(SUM(ledger.computed), 0), 1) AS tokens_per_caption,
    ROUND(SUM(ledger.seconds) / NULLIF(SUM(ledger.computed), 0), 3) AS seconds_per_caption
FROM model_calls.ledger AS ledger
WHERE ledger.kind = 'caption'
GROUP BY ALL
ORDER BY month, captioner
