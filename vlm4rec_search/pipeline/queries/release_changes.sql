-- What changed from each release to the next?
WITH ordered AS (
    SELECT
        releases.*,
        LAG(releases.release) OVER before AS release_before,
        LAG(releases.captioner) OVER before AS captioner_before,
        LAG(releases.encoder) OVER before AS encoder_before,
        LAG(releases.prompt) OVER before AS prompt_before,
        LAG(releases.table_version) OVER before AS table_version_before,
        LAG(releases.ranking) OVER before AS ranking_before
    FROM releases.releases AS releases
    WHERE releases.outcome = 'published'
    WINDOW before AS (PARTITION BY releases.url ORDER BY releases.recorded_at)
)
SELECT
    ordered.release,
    ordered.recorded_at,
    ordered.documents,
    ordered.added,
    ordered.changed,
    ordered.deleted,
    ordered.users - ordered.users_before AS more_profiles,
    CASE WHEN ordered.release_before IS NULL THEN 'the first release' ELSE COALESCE(NULLIF(CONCAT_WS(', ',
        CASE WHEN ordered.captioner IS DISTINCT FROM ordered.captioner_before THEN 'captioner' END,
        CASE WHEN ordered.prompt IS DISTINCT FROM ordered.prompt_before THEN 'prompt' END,
        CASE WHEN ordered.encoder IS DISTINCT FROM ordered.encoder_before THEN 'encoder' END,
        CASE WHEN ordered.table_version IS DISTINCT FROM ordered.table_version_before THEN 'models or raw files' END,
        CASE WHEN ordered.ranking IS DISTINCT FROM ordered.ranking_before THEN 'ranking' END), ''), 'nothing')
    END AS differs_in,
    ordered.checks
FROM ordered
ORDER BY ordered.recorded_at
