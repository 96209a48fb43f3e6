-- Run once by the mysql image, on an empty volume, as root: the home-delivery system's database.
--
-- The account debezium is made by the image before this (MYSQL_USER, its password from a secret). It reads the binary
-- log and takes the first snapshot, and may change nothing.

grant select, reload, show databases, lock tables, replication slave, replication client
   on *.*
   to 'debezium'@'%';

create database inventory
  character set utf8mb4;

create table inventory.customers (
  id             int not null auto_increment,
  name           varchar(255),
  email          varchar(255),
  password       varchar(255),
  address_line_1 varchar(255),
  address_line_2 varchar(255),
  city           varchar(255),
  state          varchar(255),
  zipcode        varchar(255),
  phonenumber    varchar(255),
  primary key (id)
);
