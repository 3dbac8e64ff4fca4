//! Names that come many at a time.

use std::{collections::HashSet, pin::pin, time::Duration};

use futures::{
    Stream, StreamExt as _,
    stream::{self, BoxStream},
};
use kube::{Resource, runtime::reflector::ObjectRef};
use tokio::time::sleep;

/// For so long names are gathered.
pub(super) const GATHERED: Duration = Duration::from_millis(500);

/// Names each object once for all the times that `objects` names it within [`GATHERED`]: to look at an AuthorizationServer
/// means to count what refers to it, and thousands of objects that change at once must not have it done thousands of times.
pub(super) fn gathered<K: Resource<DynamicType = ()> + 'static>(
    objects: impl Stream<Item = ObjectRef<K>> + Send + 'static,
) -> BoxStream<'static, ObjectRef<K>> {
    stream::unfold(objects.fuse().boxed(), async |mut objects| {
        let mut named = HashSet::from([objects.next().await?]);
        let mut end = pin!(sleep(GATHERED));
        loop {
            tokio::select! {
                () = &mut end => return Some((stream::iter(named), objects)),
                Some(next) = objects.next() => {
                    named.insert(next);
                }
            }
        }
    })
    .flatten()
    .boxed()
}
