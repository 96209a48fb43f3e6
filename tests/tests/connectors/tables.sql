create table people (
id int primary key,
name varchar(100) not null,
email varchar(100),
password varchar(100),
city varchar(100) default 'Keene',
bio text
);

create table members (
id int primary key,
member_no varchar(20) not null,
points int not null,
email varchar(100)
);

create table debezium_signal (
id varchar(42) primary key,
type varchar(32) not null,
data varchar(2048)
);
MARIADB: grant insert, update, delete on inventory.debezium_signal to 'debezium'@'127.0.0.1';
POSTGRES: grant insert, update, delete on debezium_signal to debezium;
POSTGRES: alter table people alter column bio set storage external;

insert into people (id, name, email, password, city, bio) values
(1, 'Ann', 'ann@example.org', 'secret-1', 'Bath', repeat('Ann was born. ', 800)),
(2, 'Bob', 'bob@example.org', 'secret-2', null, null),
(3, 'Cid', 'cid@example.org', 'secret-3', 'Cork', repeat('Cid was born. ', 800)),
(4, 'Dan', 'dan@example.org', 'secret-4', 'Derby', null),
(5, 'Eve', 'eve@example.org', 'secret-5', 'Exeter', null),
(6, 'Fay', 'fay@example.org', 'secret-6', 'Frome', null);

insert into members (id, member_no, points, email) values
(1, 'M-1', 10, 'mia@example.org'),
(2, 'M-2', 20, 'max@example.org'),
(3, 'M-3', 30, 'mo@example.org');

MARIADB: set sql_mode = '';
create table kinds (
MARIADB: id bigint unsigned primary key,
POSTGRES: id numeric(20, 0) primary key,
email varchar(100),
price decimal(12, 2),
whole bigint,
clock time(6),
span time(6),
MARIADB: local_3 datetime(3), local_6 datetime(6), old datetime,
POSTGRES: local_3 timestamp(3), local_6 timestamp(6), old timestamp,
MARIADB: zoned timestamp(6) null,
POSTGRES: zoned timestamptz,
day date,
MARIADB: long_number decimal(65, 30), bytes varbinary(20), doc json, ratio double,
POSTGRES: long_number numeric, bytes bytea, doc jsonb, ratio double precision,
bits bit(10),
MARIADB: counter bigint unsigned, kind enum('a', 'b'), marks set('x', 'y'), no_day date
POSTGRES: not_a_number numeric, forever date, never timestamp, always timestamptz, months interval,
POSTGRES: texts text[], numbers int[], prices numeric(8, 2)[], days date[],
POSTGRES: long_text text, long_bytes bytea, long_texts text[], long_numbers int[], long_prices numeric(8, 2)[]
);

insert into kinds (id, email, price, whole, clock, span, local_3, local_6, zoned, day, bits, ratio) values
(18446744073709551615, 'kinds@example.org', 12.50, 9007199254740993, '23:59:59.5',
MARIADB: '-838:59:59',
POSTGRES: '24:00:00',
'2024-02-29 23:59:59.120', '2024-02-29 23:59:59.123456',
MARIADB: '2024-02-29 23:59:59.000001',
POSTGRES: '2024-02-29 23:59:59.000001Z',
'9999-12-31', b'0000000101', 0.1);

MARIADB: update kinds set long_number = -12345678901234567890123456789012345.012345678901234567890123456789, old = '0001-01-01',
MARIADB: bytes = x'00ff10', doc = '{"a": 1.10}', counter = 18446744073709551615, kind = 'b', marks = 'x,y', no_day = '0000-00-00';
POSTGRES: update kinds set long_number = -12345678901234567890123456789012345.0123456789, old = '0001-01-01',
POSTGRES: bytes = '\x00ff10', doc = '{"a": 1.10}', not_a_number = 'NaN', forever = 'infinity', never = '-infinity',
POSTGRES: always = 'infinity', months = '1 year 2 mons 3 days 04:05:06.789', texts = '{a,"b, c",null}', numbers = '{1,null,3}',
POSTGRES: prices = '{1.10,2.00}', days = '{2024-02-29}', long_text = repeat('x', 10000),
POSTGRES: long_bytes = convert_to(repeat('x', 10000), 'UTF8'), long_texts = array_fill('abc'::text, array[3000]),
POSTGRES: long_numbers = array_fill(7, array[3000]);
POSTGRES: alter table kinds alter long_text set storage external, alter long_bytes set storage external,
POSTGRES: alter long_texts set storage external, alter long_numbers set storage external,
POSTGRES: alter long_prices set storage external;
-- What is stored already keeps its storage.
POSTGRES: update kinds set long_text = long_text || 'x', long_bytes = long_bytes || 'x', long_texts = long_texts || 'abc'::text,
POSTGRES: long_numbers = long_numbers || 7;

create table emptied (
id int primary key,
email varchar(100)
);
insert into emptied (id, email) values (1, 'one@example.org'), (2, 'two@example.org');
