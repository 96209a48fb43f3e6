//! The life of topics.

use std::time::Duration;

use anyhow::{Result, anyhow};
use embedded_postgres::test::{eventually, look_until};
use rdkafka::{
    Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    error::KafkaResult,
};

use super::Broker;

impl Broker {
    /// Makes a topic. When this returns, producers and consumers find it.
    pub async fn create_topic(&self, name: &str, partitions: u16) -> Result<()> {
        self.create_topic_with(name, partitions, &[]).await
    }

    /// [`Broker::create_topic`] with topic settings, such as `("retention.ms", "1000")`.
    pub async fn create_topic_with(&self, name: &str, partitions: u16, settings: &[(&str, &str)]) -> Result<()> {
        let mut topic = NewTopic::new(name, i32::from(partitions), TopicReplication::Fixed(1));
        for (key, value) in settings {
            topic = topic.set(key, value);
        }
        for result in self.admin()?.create_topics([&topic], &options()).await? {
            result.map_err(|(topic, code)| anyhow!("cannot create topic {topic}: {code}"))?;
        }
        Ok(())
    }

    /// Asks for the end of a topic, which comes a little later than this returns.
    pub async fn delete_topic(&self, name: &str) -> Result<()> {
        for result in self.admin()?.delete_topics(&[name], &options()).await? {
            result.map_err(|(topic, code)| anyhow!("cannot delete topic {topic}: {code}"))?;
        }
        Ok(())
    }

    /// Deletes a topic and makes it again, empty.
    pub async fn recreate_topic(&self, name: &str, partitions: u16) -> Result<()> {
        self.delete_topic(name).await?;
        eventually("the topic is deleted", async || self.create_topic(name, partitions).await.is_ok()).await;
        Ok(())
    }

    /// Adds partitions, up to this many. When this returns, producers find them.
    pub async fn add_partitions(&self, topic: &str, partitions: u16) -> Result<()> {
        let partitions = usize::from(partitions);
        for result in self.admin()?.create_partitions(&[NewPartitions::new(topic, partitions)], &options()).await? {
            result.map_err(|(topic, code)| anyhow!("cannot add partitions to {topic}: {code}"))?;
        }
        let found = async || {
            let (config, topic) = (self.client(), topic.to_owned());
            let ask = move || {
                let client: BaseConsumer = config.create()?;
                let metadata = client.fetch_metadata(Some(&topic), Duration::from_secs(30))?;
                KafkaResult::Ok(metadata.topics()[0].partitions().len())
            };
            tokio::task::spawn_blocking(ask).await?.map_err(anyhow::Error::from)
        };
        let are_there = |found: &Result<usize>| found.as_ref().is_ok_and(|found| *found == partitions);
        look_until("the partitions are there", found, are_there).await?;
        Ok(())
    }

    /// Lets what is before an offset go, as retention does.
    pub async fn delete_records(&self, topic: &str, partition: i32, before: i64) -> Result<()> {
        let mut gone = TopicPartitionList::new();
        gone.add_partition_offset(topic, partition, Offset::Offset(before))?;
        self.admin()?.delete_records(&gone, &options()).await?;
        Ok(())
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>> {
        Ok(self.client().create()?)
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)))
}
