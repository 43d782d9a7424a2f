use worker::{Env, Include, Object, Result};

/// Every object whose name begins so, with its metadata. One class A operation per thousand.
pub(crate) async fn all(env: &Env, prefix: &str) -> Result<Vec<Object>> {
    let bucket = env.bucket("BUCKET")?;
    let mut objects = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let mut list = bucket.list().prefix(prefix).include(vec![Include::CustomMetadata]);
        if let Some(cursor) = cursor {
            list = list.cursor(cursor);
        }
        let page = list.execute().await?;
        objects.extend(page.objects());
        cursor = page.cursor();
        if !page.truncated() || cursor.is_none() {
            return Ok(objects);
        }
    }
}
